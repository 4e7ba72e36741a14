SELECT
    p.sku,
    p.title,
    CASE
        WHEN s.quantity = 0 THEN 'sold out'
        ELSE
            CASE WHEN s.quantity < p.reorder_level THEN 'low' ELSE 'ok' END
    END AS state,
    COALESCE(s.quantity,0) AS quantity
FROM products AS p
LEFT JOIN stock AS s ON p.sku = s.sku
WHERE p.discontinued_at IS NULL
UNION
SELECT
    sku,
    title,
    'discontinued' AS state,
    0 AS quantity
FROM products
WHERE discontinued_at IS NOT NULL;
