//! Application-usage and dossier counts.
