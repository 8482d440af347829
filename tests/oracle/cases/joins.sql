-- Joins: colocated, by equivalence classes, outer, with reference tables, and not colocated.

-- name: join_key_pinned
-- expect: equal
select u.id, p.id, p.title from users u join posts p on p.user_id = u.id where u.id = 4 order by p.id;
-- name: join_key_pinned_other_side
-- expect: equal
select u.id, p.id from users u join posts p on p.user_id = u.id where p.user_id = 4 order by p.id;
-- name: join_key_where
-- expect: equal
select u.id, p.id from users u, posts p where p.user_id = u.id and u.id = 4 order by p.id;
-- name: join_chain_of_equals
-- expect: equal
select u.id, o.id, i.line from users u join orders o on o.user_id = u.id join order_items i on i.user_id = o.user_id and i.order_id = o.id where u.id = 5 order by 2, 3;
-- name: join_using
-- expect: equal
select user_id, o.id, line from orders o join order_items i using (user_id) where user_id = 5 and order_id = o.id order by 2, 3;
-- name: join_natural
-- expect: listed
select * from orders natural join (select user_id, id, total from orders where user_id = 5) q where user_id = 5 order by id;
-- name: join_both_pinned_same
-- expect: equal
select u.id, p.id from users u, posts p where u.id = 4 and p.user_id = 4 order by 2;
-- name: join_param
-- expect: equal
-- params: [{"int8": 4}]
select u.name, p.title from users u join posts p on p.user_id = u.id where u.id = $1 order by p.id;
-- name: join_left_pinned
-- expect: equal
select u.id, p.id from users u left join posts p on p.user_id = u.id where u.id = 5 order by 2;
-- name: join_left_pinned_nullable_side
select u.id, p.id from users u left join posts p on p.user_id = u.id and p.user_id = 4 where u.id in (4, 5) order by 1, 2;
-- name: join_left_on_constant
select u.id, p.id from users u left join posts p on p.user_id = 4 where u.id = 4 order by 2;
-- name: join_right_pinned
select u.id, p.id from posts p right join users u on p.user_id = u.id where u.id = 5 order by 2;
-- name: join_full_pinned
select u.id, p.id from users u full join posts p on p.user_id = u.id where u.id = 4 order by 2;
-- name: join_cross_pinned
select u.id, p.id from users u cross join posts p where u.id = 4 and p.user_id = 4 order by 2;
-- name: join_scatter_colocated
-- expect: equal
select u.id, p.id, p.title from users u join posts p on p.user_id = u.id order by u.id, p.id;
-- name: join_scatter_colocated_unordered
-- expect: equal
-- unordered
select u.id, o.id, o.total from users u join orders o on o.user_id = u.id where o.total > 100;
-- name: join_scatter_colocated_left
select u.id, p.id from users u left join posts p on p.user_id = u.id order by 1, 2 nulls first;
-- name: join_scatter_three
-- expect: equal
select u.id, o.id, i.line, i.sku from users u join orders o on o.user_id = u.id join order_items i on i.user_id = u.id and i.order_id = o.id order by 1, 2, 3;
-- name: join_scatter_count
-- expect: equal
select count(*) from users u join posts p on p.user_id = u.id;
-- name: join_scatter_group
select u.country, count(*) from users u join posts p on p.user_id = u.id group by u.country order by 1 nulls first;
-- name: join_reference
-- expect: equal
select u.id, c.name from users u join countries c on c.code = u.country where u.id = 4;
-- name: join_reference_scatter
-- expect: equal
select u.id, c.name from users u join countries c on c.code = u.country order by u.id;
-- name: join_reference_left
-- expect: equal
select u.id, c.name from users u left join countries c on c.code = u.country order by u.id;
-- name: join_reference_right
select c.code, u.id from users u right join countries c on c.code = u.country and u.age > 60 order by 1, 2;
-- name: join_reference_full
select c.code, u.id from users u full join countries c on c.code = u.country order by 1, 2;
-- name: join_reference_outer_driving
select c.code, u.id from countries c left join users u on u.country = c.code and u.id = 4 order by 1, 2;
-- name: join_two_references
-- expect: equal
select a.code, b.code from countries a join countries b on a.continent = b.continent order by 1, 2;
-- name: join_self_on_key
-- expect: equal
select a.id, b.id from t a join t b on a.k = b.k where a.k = 3 order by 1, 2;
-- name: join_self_on_key_scatter
-- expect: equal
select a.id, b.id from t a join t b on a.k = b.k order by 1, 2;
-- name: join_not_on_key
select a.id, b.id from t a join t b on a.id = b.g where a.id < 4 order by 1, 2;
-- name: join_different_keys_pinned
select u.id, f.other_id, v.name from users u join follows f on f.user_id = u.id join users v on v.id = f.other_id where u.id = 3 order by 2;
-- name: join_key_to_other_column
select p.user_id, p.id from posts p join follows f on p.user_id = f.other_id where f.user_id = 2 order by 1, 2;
-- name: join_cross_scatter
select count(*) from t a cross join t b;
-- name: join_inequality
select count(*) from users a join users b on a.id < b.id;
-- name: join_key_types_same_family
-- expect: equal
select s.k, t.id from smalls s join t on t.k = s.k order by 1, 2;
-- name: join_key_types_other_family
-- error: 42883
select * from words w join t on t.k = w.w;
-- name: join_lateral
select u.id, p.title from users u cross join lateral (select title from posts where posts.user_id = u.id order by posts.id limit 1) p where u.id in (3, 4, 5) order by 1;
-- name: join_lateral_pinned
select u.id, p.title from users u cross join lateral (select title from posts where posts.user_id = u.id order by posts.id limit 1) p where u.id = 4;
-- name: join_lateral_uncorrelated
select u.id, p.n from users u, lateral (select count(*) n from posts) p where u.id = 4;
-- name: join_subquery_on_key
select u.id, q.n from users u join (select user_id, count(*) n from posts group by user_id) q on q.user_id = u.id order by 1;
-- name: join_subquery_pinned
select u.id, q.n from users u join (select user_id, count(*) n from posts group by user_id) q on q.user_id = u.id where u.id = 4;
-- name: join_subquery_limit
select u.id, q.id from users u join (select user_id, id from posts order by user_id, id limit 5) q on q.user_id = u.id order by 1, 2;
-- name: join_values
select u.id, v.b from users u join (values (3, 'x'), (4, 'y')) v (a, b) on v.a = u.id order by 1;
-- name: join_unnest
select u.id, a.x from users u join unnest(array[3, 4]) a (x) on a.x = u.id order by 1;
-- name: join_generate_series
select s.i, u.name from generate_series(1, 5) s (i) join users u on u.id = s.i order by 1;
-- name: join_generate_series_left
select s.i, u.name from generate_series(39, 42) s (i) left join users u on u.id = s.i order by 1;
-- name: join_or_condition
select count(*) from users u join posts p on p.user_id = u.id or p.id = u.id;
-- name: join_duplicate_names
-- expect: equal
select * from orders o join order_items i on i.user_id = o.user_id and i.order_id = o.id where o.user_id = 4 order by line;
-- name: join_alias_star
-- expect: equal
select p.*, u.name from users u join posts p on p.user_id = u.id where u.id = 4 order by p.id;
-- name: join_whole_row
select u, p.id from countries u join posts p on p.title like '%' || u.code || '%';
-- name: join_view
-- expect: listed
select user_id, name, post_id from user_posts where user_id = 4 order by 3;
-- name: join_view_scatter
-- expect: listed
select user_id, post_id from user_posts order by 1, 2;
-- name: join_semi
select u.id from users u where exists (select 1 from posts p where p.user_id = u.id and p.likes > 15) order by 1;
-- name: join_anti
select u.id from users u where not exists (select 1 from posts p where p.user_id = u.id) order by 1;
-- name: join_composite_key
select a.a, a.b, b.n from pairs a join pairs b on a.a = b.a and a.b = b.b order by 2;
-- name: join_composite_key_half
select count(*) from pairs a join pairs b on a.a = b.a;
