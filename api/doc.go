// Package api is the HTTP side of the service: it turns requests into calls of package ledger and the packages around it, and
// their answers into bytes. It decides nothing about money.
//
// # The way of a request
//
// gin finds the route. [server.serve] names the request, and sees to it that whatever happens is measured, logged and answered
// with a document. [server.admit] decides from the headers alone who calls, whether he may, how often, under which idempotency
// key and until when. Only then is the body read, once, by package strictjson, straight into the types of package gen. A
// handler calls the ledger, whose replies are bytes that go out as they are.
//
// # What is where
//
//	openapi.yaml → gen/       routes, parameters and types; committed, and compared by a test with the tables here
//	routes.go                 scope, operation and limits of every route
//	problem.go                every error that a caller can see, with its code: the only such table
//	holds.go … admin.go       the handlers
//
// # Traps
//
//   - A write's context ends with its deadline, but not when the caller hangs up: from admit on the service decides the
//     outcome. Reads end with their caller.
//   - A replay answers the status of the first reply. Nothing stores that status; it follows from the operation and the
//     recorded bytes alone (see ledger.Answer.Created).
//   - The order of checks is the order of docs/errors.md, except that the body is read after the headers were judged.
package api

//go:generate cp ../docs/errors.md errors.md
