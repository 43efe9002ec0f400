"""The benchmarks are no installed package: they are found in the tree."""

import sys

from tests.docs.reading import ROOT

if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))
