use serde::Deserialize;
use uuid::Uuid;

use super::Client;
use crate::error::Error;

#[derive(Deserialize)]
struct Operator {
    name: String,
}

impl Client {
    /// Returns the name of the operator of this client's token, or `None` if the service accepts
    /// the token without returning a name. Fails with 401 if the token is unknown.
    pub(crate) async fn operator(&self) -> Result<Option<String>, Error> {
        match self.get::<Operator>(&["operator"], &[]).await {
            Ok(operator) => Ok(Some(operator.name)),
            // An earlier release does not have this route. It checks the token for the payload of
            // any job, even of an unknown one.
            Err(error) if error.is_not_found() => match self.job(Uuid::nil()).await {
                Ok(_) => Ok(None),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    }
}
