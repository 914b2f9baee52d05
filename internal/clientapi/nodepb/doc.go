// Package nodepb is the generated code of node.proto, the protocol between a client
// and its own node. Package clientapi is what the rest of the program uses.
//
// The code is checked in; "make generate" makes it again.
package nodepb
