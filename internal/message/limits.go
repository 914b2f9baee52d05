package message

// Limits on what is read from a message. Beyond them a message is shown without what
// is beyond; its bytes stay whole and can be saved.
const (
	maxHeader      = 256 << 10 // bytes of one header
	maxDepth       = 20        // parts within parts
	maxParts       = 1000      // parts in all
	maxAttachments = 500
	maxText        = 1 << 20 // bytes of text for showing
	maxHTML        = 4 << 20 // bytes of HTML from which text is made
	maxAddresses   = 1000    // in one field
	maxField       = 2000    // characters of a shown field
	maxReferences  = 50
)
