//! The authority of the front proxy: who hands requests on to services that serve groups of their own.
//!
//! It is another authority than that of clients, for its certificate says of others who they are.

use std::path::Path;

use rcgen::{Issuer, KeyPair};

use super::{Error, Identity, files, issue};

/// The name in the certificate, which services are told to expect.
pub const FRONT_PROXY: &str = "front-proxy-client";

/// Issues certificates of the front proxy.
pub struct FrontProxy {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl FrontProxy {
    /// Opens the authority in `folder`, or makes one there.
    ///
    /// # Errors
    /// Files that cannot be read or written, or that hold something else.
    pub fn open(folder: &Path) -> Result<FrontProxy, Error> {
        files::make_folder(folder)?;
        let (certificate, issuer) = files::authority(folder, "sextant-front-proxy-ca")?;
        Ok(FrontProxy { certificate, issuer })
    }

    /// The authority's certificate in PEM, for services to trust.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for a year.
    ///
    /// # Errors
    /// Where none can be made.
    pub fn issue(&self) -> Result<Identity, Error> {
        issue::client(&self.issuer, FRONT_PROXY, &[])
    }
}
