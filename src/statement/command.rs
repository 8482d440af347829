//! Session statements (SET, BEGIN, FETCH, …), read without a SQL parser.
