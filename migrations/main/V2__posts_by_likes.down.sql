-- keyway: transaction=false
DROP INDEX CONCURRENTLY posts_by_likes;
