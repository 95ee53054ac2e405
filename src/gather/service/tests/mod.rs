//! Checks against real servers of this process, one behaviour each.
