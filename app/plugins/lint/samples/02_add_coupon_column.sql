-- sqlfluff:dialect:mysql
ALTER TABLE orders
ADD COLUMN coupon_code VARCHAR(32) null AFTER total_cents,
ADD INDEX idx_orders_coupon_code (coupon_code);

UPDATE orders set coupon_code = NULL
WHERE coupon_code = '';
