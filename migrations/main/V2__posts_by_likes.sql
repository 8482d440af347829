-- keyway: transaction=false
-- Built while posts are written: an index that is built otherwise keeps writers waiting.
CREATE INDEX CONCURRENTLY posts_by_likes ON posts (likes DESC);
