-- sqlfluff:dialect:mysql
-- Found in the slow query log; written by an ORM and touched up by hand.
SELECT p.id, p.title, p.price_cents, b.name AS brand_name, c.name AS category_name
FROM products AS p
JOIN brands AS b ON p.brand_id = b.id
LEFT JOIN categories AS c ON p.category_id = c.id
WHERE p.price_cents BETWEEN 1000 AND 9999 AND p.title LIKE '%garden chair%' AND b.is_active
ORDER BY p.price_cents DESC, p.id
LIMIT 0, 50;
