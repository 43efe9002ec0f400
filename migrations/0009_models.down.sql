DROP TABLE prediction_cache, embeddings, training_metrics, model_promotions, ml_models, models;
