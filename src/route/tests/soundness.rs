//! What looks like a key and must not be taken for one.

use super::check_all;

const ALL: &str = "scatter s0,s1,s2";
const SPREAD: &str = "refuse 0A000";

#[test]
fn a_semi_join_says_nothing_of_which_rows_a_limit_keeps() {
    check_all(&[
        (
            "SELECT id FROM users u WHERE u.id IN (SELECT o.user_id FROM orders o ORDER BY o.user_id DESC LIMIT 1)",
            SPREAD,
        ),
        (
            "SELECT id FROM users u WHERE u.id = ANY (SELECT o.user_id FROM orders o ORDER BY o.user_id DESC LIMIT 1)",
            SPREAD,
        ),
        (
            "SELECT id FROM users u WHERE u.id = 27 AND u.id IN (SELECT user_id FROM orders ORDER BY user_id DESC LIMIT 1)",
            SPREAD,
        ),
        (
            "DELETE FROM users WHERE id = 27 AND id IN (SELECT user_id FROM orders ORDER BY user_id DESC LIMIT 1)",
            SPREAD,
        ),
        (
            "SELECT id FROM orders WHERE (user_id, id) IN (SELECT user_id, id FROM orders ORDER BY user_id DESC LIMIT 1)",
            SPREAD,
        ),
        (
            "SELECT id FROM users WHERE id IN (SELECT user_id FROM orders ORDER BY user_id OFFSET 3)",
            SPREAD,
        ),
        (
            "SELECT id FROM users WHERE id IN (SELECT user_id FROM \
             (SELECT user_id, rank() OVER (ORDER BY total) AS r FROM orders) z WHERE z.r = 1)",
            SPREAD,
        ),
        (
            "SELECT id FROM users WHERE id IN (SELECT user_id FROM \
             (SELECT user_id, count(*) OVER () AS n FROM orders) z WHERE z.n > 3)",
            SPREAD,
        ),
        (
            "SELECT id FROM users WHERE id IN (SELECT DISTINCT ON (total) user_id FROM orders ORDER BY total, id)",
            SPREAD,
        ),
        (
            "SELECT id FROM users WHERE id IN (SELECT user_id FROM orders GROUP BY user_id ORDER BY count(*) DESC LIMIT 1)",
            SPREAD,
        ),
        (
            "SELECT id FROM users u WHERE EXISTS (SELECT 1 FROM \
             (SELECT user_id FROM orders ORDER BY user_id DESC LIMIT 1) z WHERE z.user_id = u.id)",
            SPREAD,
        ),
        (
            "WITH z AS (SELECT user_id FROM orders ORDER BY user_id DESC LIMIT 1) \
             SELECT id FROM users WHERE id IN (SELECT user_id FROM z)",
            SPREAD,
        ),
        (
            "SELECT x.id FROM (SELECT u.id FROM users u WHERE EXISTS (SELECT 1 FROM \
             (SELECT user_id FROM orders LIMIT 1) z WHERE z.user_id = u.id)) x WHERE x.id = 7",
            SPREAD,
        ),
        (
            "SELECT id FROM users u WHERE EXISTS (SELECT 1 FROM posts p WHERE p.user_id = u.id AND p.user_id IN \
             (SELECT user_id FROM orders ORDER BY total LIMIT 1))",
            SPREAD,
        ),
        (
            "COPY (SELECT id FROM users u WHERE u.id = 27 AND u.id IN \
             (SELECT user_id FROM orders ORDER BY user_id DESC LIMIT 1)) TO STDOUT",
            SPREAD,
        ),
        // What may be pushed inwards still is.
        (
            "SELECT id FROM users WHERE id IN (SELECT user_id FROM orders WHERE total > 3)",
            ALL,
        ),
        (
            "SELECT id FROM users WHERE id = 7 AND id IN (SELECT user_id FROM orders GROUP BY user_id HAVING count(*) > 3)",
            "single {7}",
        ),
        (
            "SELECT id FROM users u WHERE EXISTS (SELECT 1 FROM (SELECT user_id FROM orders) z WHERE z.user_id = u.id)",
            ALL,
        ),
        (
            "SELECT id FROM users u WHERE EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id ORDER BY o.id LIMIT 1)",
            ALL,
        ),
        (
            "SELECT id FROM users WHERE id IN (SELECT user_id FROM orders WHERE user_id = 7 ORDER BY total LIMIT 1)",
            "single {7}",
        ),
    ]);
}
