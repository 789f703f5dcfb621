"""Known faults: what is wrong in the delivered data, where, and by which rule.

Three kinds: rule violations put into good rows (`origin` injected), violations that the simulated world has by
itself (`natural`: registration errors, archives of the dead left open), and records that no reader can take.
Every one is a row of `truth/fault.parquet`.
"""
