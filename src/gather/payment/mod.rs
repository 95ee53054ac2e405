//! The payment ledger and its reconciliation.
