// Package mailfile reads and writes mail as other programs keep it in files: Maildir with
// the folders of Maildir++, and mbox.
//
// Reading begins with [FindMaildirs] and [Maildir.Messages], or [NewMboxReader]; writing
// with [CreateMaildir] or [OpenMboxFile]. Everything is streamed: no message, only the
// names of the files of one folder, is in memory as a whole.
//
// # Line ends
//
// Mail has CRLF at the end of lines, files have LF by custom. A message is written with LF
// if that can be undone (each line ends in CRLF), else byte for byte, and what was written
// so carries a mark. What is read gets CRLF for each LF that has no CR before it, unless
// the mark is there. So a message written by this package is read back byte for byte, and
// one written by another program is read as IMAP servers show it.
//
// # Marks
//
// What this package writes is known again by its [ID]: in Maildir it is part of the file's
// name, in mbox the sender in the line "From ". No header is added for it. In mbox the
// three fields Status, X-Status and X-Keywords precede each message; they and the quoting
// of lines that begin with "From " (by ">", mboxrd) are taken away when it is read.
//
// # Safety
//
// Nothing below a Maildir that is not a regular file is read, no symbolic link is followed,
// and nothing outside its folder is ever touched, whoever else writes there. A file is
// written under another name first, or is as long as before if writing failed.
//
// Maildir: https://cr.yp.to/proto/maildir.html; Maildir++:
// https://www.courier-mta.org/imap/README.maildirquota.html; mbox: RFC 4155 and
// https://doc.dovecot.org/admin_manual/mailbox_formats/mbox/.
package mailfile
