-- sqlfluff:dialect:postgres
SELECT DISTINCT(cart_id), customers.email
FROM carts
LEFT JOIN customers ON customers.id = carts.customer_id
WHERE carts.checked_out_at = NULL
    AND carts.updated_at < now() - interval '1 day';
