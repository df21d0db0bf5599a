// Package access keeps the API keys: who may call, what for, and how often.
//
// A caller sends "Authorization: Bearer ss_<key id>_<secret>". The id is 16 hexadecimal digits and public: logs and lists
// name a key by it. The secret is 64 hexadecimal digits, 256 random bits, shown once by Create and stored nowhere: the
// register has its SHA-256 under keys/<id>. A slow password hash would protect guessable secrets; these cannot be guessed.
//
// # What is authoritative
//
// The register. Verify reads a copy in memory that follows it: no request waits for anything. What this process creates,
// updates or revokes is in the copy before the call returns; what others do arrives within milliseconds.
//
// # Failure handling
//
//   - Register unreachable at the start: Open fails.
//   - Register unreachable later: known keys go on working, and a revocation made elsewhere is not heard. Age says since
//     when; who cares more about revocation than about serving compares it. A key's own expiry needs no register.
//   - An entry that cannot be read is a key that nobody can use. List shows it without a name, so that it can be revoked.
//
// # Traps
//
//   - Scopes contain no other scopes: a key that administers cannot read unless it also has the scope for it.
//   - Rate is carried, not enforced, here: sharing it among the live instances is api's job.
//   - Revoked keys stay, for the audit, and count against keysMax.
//   - The Key that Verify returns is shared by all requests and read-only.
package access
