// Package tidy holds tests that read the repository instead of running it: who may import what (imports_test.go), words,
// lines and files that do not belong here (text_test.go), and links in the documents (links_test.go).
//
// What a compiler or linter can say better is said there (.golangci.yml). Every rule here is a row of a table with its
// reason, so that who trips over one learns why, and who knows better changes the row.
package tidy
