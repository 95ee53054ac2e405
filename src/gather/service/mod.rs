//! Portals, applications and databases: probes.
