// Package control is the operator's door to a running node: HTTP with JSON over the
// unix socket [SocketName] in the node's data folder. It holds both halves.
//
// [Listen] takes the folder for this process and [Serve] answers from a [Backend];
// [Dial] gives a [Client] whose methods are those of the Backend.
//
// Only the user who runs the node and root are answered: the folder and the socket
// are closed to others, and the peer's uid is asked of the kernel for every
// connection, so that a folder with loose permissions opens no door. Whoever passes
// may do all that the node can do. There is no other authentication, so the socket
// must not be forwarded to another machine.
//
// The node's half needs Linux or macOS; the client's half compiles everywhere.
//
// # Compatibility
//
// Paths begin with /v1/. Within v1, fields are only added; both halves refuse what
// they do not know in a request and ignore it in an answer, so an older command
// still understands a newer node.
package control
