// Package gen is the client side of openapi.yaml: the types, and the requests. Package client makes them safe to use.
package gen

//go:generate ../../bin/oapi-codegen -config config.yaml ../../openapi.yaml
