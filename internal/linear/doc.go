// Package linear says what the replies of the service to one owner must be, whatever failed meanwhile: there must be an order of the
// calls that agrees with real time, in which each reply follows from those before it. Histories are checked against its [Model]
// with porcupine, owner by owner.
package linear
