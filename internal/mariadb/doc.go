// Package mariadb starts real MariaDB servers for tests, benchmarks and the one-machine cluster: on a loopback port and a
// unix socket, with a data directory of their own, and with the settings the service demands of its shards.
//
// A server is as durable as a production one (see settings): what a test says about kill -9 is worth nothing on a server
// that does not sync. It dies with the program that started it, and its data with it unless Options.Folder is given.
//
// Start makes two users, both without a password and reachable from 127.0.0.1 only: app has what migrations and requests need, but
// neither SUPER nor READ ONLY ADMIN nor BINLOG ADMIN, so that read_only stops it as it stops the service in production;
// root may do everything.
//
// Prepare and Command are for who supervises a server himself, with users and settings of his own.
//
// Initialising a data directory takes seconds, so it is done once per server version and copied afterwards; the copy
// lives in the user's cache folder and may be deleted at any time.
package mariadb
