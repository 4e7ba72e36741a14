-- sqlfluff:dialect:mysql
DELETE FROM sessions
WHERE last_seen_at < NOW() - INTERVAL 30 DAY
LIMIT 10000;

DELETE FROM login_attempts
WHERE attempted_at < NOW() - INTERVAL 7 DAY;
