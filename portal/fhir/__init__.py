"""The registry in FHIR R4: how requests are read, how persons are written, and what an error looks like.

Sources: FHIR R4 (Patient, Patient-match, OperationOutcome), FHIR R5 (Patient-merge), IHE PIXm (ITI-83).
"""
