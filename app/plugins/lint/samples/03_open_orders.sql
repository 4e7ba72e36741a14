SELECT
    o.id,
    o.placed_at,
    c.email
FROM orders AS o
INNER JOIN customers AS c ON o.customer_id = c.id
WHERE o.status = 'new'
ORDER BY o.placed_at;
