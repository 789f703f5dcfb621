"""The clinical world of a simulated city: disease, care and the records of it, in standard codes.

Tables are pyarrow tables in the column names of the contracts, plus `org_code` (who emits the row),
`deliver_on` (data date of the delivery that first holds it) and, where a resident is behind the row,
`resident` (index into the city's residents; never written). Times are naive local ones (Asia/Shanghai):
that is what source systems hold.
"""
