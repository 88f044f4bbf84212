"""AGPIS: ordered, rule-compliant product-image sequences out of a shop's raw photos.

The method is *Automatic Generation of Product-Image Sequence in E-commerce* (Fan et al., KDD '22).
Importing the package loads nothing heavy; see `agpis.pipeline.Pipeline` and `agpis.engine.generate`.
"""

__version__ = "0.1.0"
