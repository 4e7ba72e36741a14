-- sqlfluff:dialect:bigquery
SELECT
    carrier,
    COUNT(1) AS parcels,
    AVG(TIMESTAMP_DIFF(delivered_at, shipped_at, HOUR)) AS average_hours
FROM `shop.logistics.parcels`
WHERE DATE(shipped_at) >= DATE_SUB(CURRENT_DATE(), INTERVAL 30 DAY)
GROUP BY carrier
HAVING COUNT(1) > 10
ORDER BY average_hours DESC, carrier
