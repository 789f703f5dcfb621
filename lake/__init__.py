"""The ground floor: settings, contracts, Delta tables, ledger, audit, errors, crypto. Imports no other room."""
