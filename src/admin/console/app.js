// The page's entry point.
document.title = "Portcullis";
