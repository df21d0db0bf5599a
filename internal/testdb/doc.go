// Package testdb gives tests real databases: MariaDB and Redis servers that are started on free loopback ports and die with
// the test binary, even if that is killed. The database is never mocked.
//
//   - MariaDB returns the server all tests of a binary share. Take a Schema of it; it is dropped with the test.
//   - Start returns a server of the test's own, for tests that kill, pause or reconfigure it.
//   - Redis returns a Redis server of the test's own; it starts in milliseconds.
//
// Where a server is not installed the test is skipped by hand, and fails if CI=true. `make test` installs what is missing.
package testdb
