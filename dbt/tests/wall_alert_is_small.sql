-- The ticker of the wall shows twenty lines and no more.
select count(*) as alerts
from {{ ref('wall_alert') }}
having count(*) > 20
