"""Edge nodes: an institution, and a station's terminal below it, go on working for days without a network.

Upwards a node spools what it takes, sealed so that only the centre can read it, and forwards it when it can.
Downwards it keeps a pack of its own residents, codes and entry rules for look-ups and checks offline.

    station --mutual TLS--> institution --mutual TLS--> centre --> drop folder --> the one batch path

The verbs are in ``node`` (run a node), ``centre`` (run the centre), ``pki`` (who may take part), ``watch`` (silent
nodes), ``apart`` (persons registered twice while apart), ``pack_build`` (what nodes are given).
"""
