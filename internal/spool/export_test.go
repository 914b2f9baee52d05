package spool

// Expire is one round of Run.
var Expire = (*Spool).expire
