// Package apitest holds requests and replies against openapi.yaml, in tests. Production does not: the strict reader and the
// ledger check requests by hand, faster, and the tests that run behind this package prove that they let nothing pass which the
// contract forbids, and that every reply is one that the contract promises.
//
// The check is kin-openapi's, which shares no code with ours. It needs the build tag contract, because its own dependencies
// are not those of the service.
package apitest
