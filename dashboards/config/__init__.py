"""What Superset is told: everything comes from the environment or from the files under SUPERSET_HOME."""
