//! Rows from files, later from HTTP, SQL and push: shared by payment and usage.
