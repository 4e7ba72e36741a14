-- sqlfluff:dialect:postgres
BEGIN;

UPDATE orders
SET customer_id = merged.account_id
FROM (
    SELECT
        guests.id AS guest_id,
        accounts.id AS account_id
    FROM customers AS guests
    INNER JOIN customers AS accounts ON guests.email = accounts.email
    WHERE guests.is_guest AND NOT accounts.is_guest
) AS merged
WHERE orders.customer_id = merged.guest_id;

COMMIT;
