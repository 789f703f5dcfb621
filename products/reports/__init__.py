"""Monthly reports: a county's own workbook, its cells bound once to indicators, filled each month, frozen on submission.

``layouts.bind``, ``months.fill/submit/differences/drill``, ``indicators.known``, ``workbook.preview``.
"""
