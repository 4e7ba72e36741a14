select c.full_name, sum(o.total_cents) total
from customers c
join orders o on o.customer_id = c.id
where o.status <> 'cancelled'
group by c.full_name
order by total desc
limit 20
