-- sqlfluff:dialect:mysql
-- The tables of a small web shop.
CREATE TABLE customers (
    id INT UNSIGNED NOT NULL AUTO_INCREMENT,
    email VARCHAR(255) NOT NULL,
    full_name VARCHAR(255) NOT NULL,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    UNIQUE KEY uk_customers_email (email)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE orders (
    id INT UNSIGNED NOT NULL AUTO_INCREMENT,
    customer_id INT UNSIGNED NOT NULL,
    status ENUM('new', 'paid', 'shipped', 'cancelled') NOT NULL DEFAULT 'new',
    total_cents BIGINT NOT NULL,
    placed_at DATETIME(6) NOT NULL,
    PRIMARY KEY (id),
    KEY idx_orders_customer_id (customer_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
