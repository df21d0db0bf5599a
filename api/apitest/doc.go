// Package apitest is what tests of the HTTP side need: a whole instance over SQLite, and a check of everything that goes in
// and out against openapi.yaml.
//
// Production does not check requests against the document: the strict reader and the ledger do so by hand, faster, and the
// tests that run behind Check and Transport prove that they let nothing pass which the contract forbids, and that every reply is one that
// the contract promises. The check is kin-openapi's, which shares no code with ours.
package apitest
