// Package gen is the server side of openapi.yaml: routes, parameters, request and reply types. gen.go and openapi.yaml are
// generated; body.go says how the bodies of requests read themselves.
package gen

import _ "embed"

//go:generate cp ../../openapi.yaml openapi.yaml
//go:generate ../../bin/oapi-codegen -config config.yaml openapi.yaml

// OpenAPI is the contract, as the service shows it at /openapi.yaml. It is a copy of the file at the repository's root,
// because a package cannot embed what is above it.
//
//go:embed openapi.yaml
var OpenAPI []byte
