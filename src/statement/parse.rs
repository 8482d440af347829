//! Shape text → tree. The only file that names sqlparser.
