-- Broken on purpose: a bracket is never closed, so no rule can look at the file.
SELECT
    p.category_id,
    ROUND(
        COUNT(r.id) / COUNT(o.id) * 100, 1
    AS return_rate
FROM order_items AS o
LEFT JOIN returns AS r ON o.id = r.order_item_id
INNER JOIN products AS p ON o.product_id = p.id
GROUP BY p.category_id;
