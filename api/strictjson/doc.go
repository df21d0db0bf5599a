// Package strictjson reads the JSON of requests, once, straight into the fields they are for.
//
// It refuses what JSON leaves to taste and what has cost others money: text that is not UTF-8, lone surrogates, names that
// are unknown, repeated or in another case, null, anything after the value, and every number that is not a plain integer
// (1.0, 1e3, "1") or that JavaScript would round (above 2^53−1). Nothing is converted and nothing is guessed.
//
// # How a type reads itself
//
// A type that can be read has a method ReadJSON, which asks for what must come next and names every member it knows:
//
//	func (m *Money) ReadJSON(r *strictjson.Reader) {
//		for r.Object(); r.Member(); {
//			switch r.Name() {
//			case "amount":
//				m.Amount = r.Integer(0, strictjson.MaxInteger)
//			case "currency":
//				m.Currency = r.String()
//			default:
//				r.Unknown()
//			}
//		}
//		r.Require("amount", "currency")
//	}
//
// The first thing that is wrong ends the reading: from then on every method returns a zero value and every loop ends. So
// ReadJSON never asks whether something went wrong, and must not act on what it has read.
//
// # Limits
//
// Depth is bounded by maxDepth. Everything else is bounded by the size of the text, which the caller limits, because a member
// that nobody asked for is never skipped.
package strictjson
