//! Prometheus rule files, annotation templates, the ruler.
