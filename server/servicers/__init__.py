"""The services of penchant.v1, one file each: parse, one domain call, render."""
