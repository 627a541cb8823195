use crate::schema::major_of;
use crate::{Envelope, Event, TenantId};

/// Why data can't be read as an event of the requested type.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The event is of another type.
    #[error("the type is {given}, not {expected}")]
    Type {
        /// Type of the envelope.
        given: String,
        /// Type of the reader.
        expected: &'static str,
    },
    /// The schema has another major version than the reader's.
    #[error("the dataschema {given:?} is not of major {expected}")]
    Major {
        /// Schema of the envelope.
        given: String,
        /// Major version of the reader.
        expected: u32,
    },
    /// The data does not match the type.
    #[error("the data is not a valid {event_type}")]
    Data {
        /// Type of the reader.
        event_type: &'static str,
        /// The place and the reason.
        source: serde_json::Error,
    },
    /// Envelope and data name different tenants or subjects.
    #[error("the {attribute} of the envelope is {envelope:?}, but the data has {data:?}")]
    Disagreement {
        /// `tenantid` or `subject`.
        attribute: &'static str,
        /// Value in the envelope.
        envelope: String,
        /// Value in the data.
        data: String,
    },
}

impl Envelope {
    /// Reads data as an event of type `E`. Unknown fields are ignored.
    ///
    /// # Errors
    /// Fails if the type or major version differs, if the data can't be deserialised, or if
    /// envelope and data disagree about the tenant or the subject, since a consumer might otherwise
    /// write data for the wrong tenant.
    pub fn read<E: Event>(&self, data: &[u8]) -> Result<E, ReadError> {
        self.is_readable_as::<E>()?;
        let data: E = serde_json::from_slice(data)
            .map_err(|source| ReadError::Data { event_type: E::TYPE, source })?;
        self.agrees_with(&data)?;
        Ok(data)
    }

    fn is_readable_as<E: Event>(&self) -> Result<(), ReadError> {
        if self.event_type != E::TYPE {
            let (given, expected) = (self.event_type.clone(), E::TYPE);
            return Err(ReadError::Type { given, expected });
        }
        let (Some(given), Some(expected)) = (&self.dataschema, E::SCHEMA.major()) else {
            return Ok(());
        };
        if major_of(given) == Some(expected) {
            Ok(())
        } else {
            Err(ReadError::Major { given: given.clone(), expected })
        }
    }

    fn agrees_with<E: Event>(&self, data: &E) -> Result<(), ReadError> {
        let subject = data.subject();
        let pairs = [
            ("tenantid", self.tenant_id.as_ref().map(TenantId::as_str), data.tenant()),
            ("subject", self.subject.as_deref(), Some(&*subject)),
        ];
        for (attribute, envelope, data) in pairs {
            if let (Some(envelope), Some(data)) = (envelope, data)
                && envelope != data
            {
                let (envelope, data) = (envelope.to_owned(), data.to_owned());
                return Err(ReadError::Disagreement { attribute, envelope, data });
            }
        }
        Ok(())
    }
}
