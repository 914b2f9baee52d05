package node

var FullAt = fullAt
