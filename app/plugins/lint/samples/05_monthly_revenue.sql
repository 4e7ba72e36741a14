-- sqlfluff:dialect:postgres
-- Revenue by month; the second CTE was left behind by an earlier version.
WITH paid AS (
    SELECT
        total_cents,
        date_trunc('month', placed_at) AS month_start
    FROM orders
    WHERE status IN ('paid', 'shipped')
),

refunds AS (
    SELECT order_id FROM payments
    WHERE kind = 'refund'
)

SELECT
    month_start,
    SUM(total_cents) / 100.0 AS revenue,
    count(*) AS order_count
FROM paid
GROUP BY month_start
ORDER BY month_start;
